"""``trellic batch``: folders, tar shards and parquet files encoded or decoded on a Ray cluster.

::

    list items -> leave out what the manifest has -> actors of Ray Data, a codec each
              -> results: files in DST, lines of the manifest, bad items set aside -> report
"""
