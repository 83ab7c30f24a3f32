"""A plan told to a person: tables in the terminal, charts, one self-contained HTML page, CSV.

Everything here only reads an `Answer`. Charts are specified once (`charts`) and drawn as SVG, PNG or
inside the page; nothing heavy is imported before it is asked for.
"""



