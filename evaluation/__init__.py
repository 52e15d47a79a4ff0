"""What an edit is worth: measured (report), judged by a model (judge), compared with words (alignment), and chosen by.

Every producer gives `Scores`; whatever chooses, tells or stores takes them. Nothing here samples, and nothing reaches
the network.
"""
