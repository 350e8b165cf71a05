"""From prompts with references and two chat endpoints to the file that says when to ask the second.

Read `calibrate.py` first. `prompts.py` reads the prompts, `ask.py` asks both endpoints, `replies.py` keeps the replies.
`remote.py` is about one endpoint, as the remote of a classifier. Both keep replies in a file of `lines.py`.
"""
