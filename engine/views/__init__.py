"""The questions that people ask of the log: pure from a log and its projections, as of one moment, to answers.

Every answer is a struct; its JSON is what `-o json` prints. How it is shown is not said here.
"""
