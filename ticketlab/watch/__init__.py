"""Looking at a study or a table from outside, while it runs or not, from any process. Changes nothing."""
