"""The types that every part shares: errors, answers, estimates, the policy and the document in a cascade file.

Importing a module of this package needs numpy and the standard library only.
"""
