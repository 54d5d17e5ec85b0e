"""One file per score: a pure function from a Scoring to ``{name: tensor}``, high = keep."""
