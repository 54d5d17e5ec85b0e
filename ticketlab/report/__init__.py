"""What people read: results in the terminal, as one HTML file, as CSV and LaTeX, as an exit code; and live progress.

Every part takes the results document, a plain dict, and imports nothing that computed it.
"""
