"""Rows for teaching function calling, made from public data and from a catalogue of functions.

    sources      the public repositories, and the hash of what is read
    sgd, intents, seal           what people said there -> Ask or Request
    catalogue, values, asking    a catalogue of functions (domains/*.txt) -> Ask
    functions    Function, Ask, Request
    tools        a function as a tool, in one of many ways
    joining, compose             several requests as one; rows of five categories
    leaderboard, mixture         what is left out and what is held out; shares

`python -m minifc.data.public --help` tells how the files are made.
"""
