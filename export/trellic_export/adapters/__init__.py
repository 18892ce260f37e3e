"""``trellic adapt``: small changes of a model's weights, trained on pictures of one kind.

It lives here and not in the training package because it trains the bundle's own graphs
(`trellic_export.torch_engine`): no checkpoint is needed, and the adapter fits the networks that
people have.
"""
