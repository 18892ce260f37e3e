"""``trellic adapt``: small changes of a model's weights, trained on pictures of one kind.

It is here and not in the training package because it trains the bundle's own graphs
(`trellic_export.torch_graph`). So it needs no checkpoint, and the adapter fits the networks that
users have.
"""
