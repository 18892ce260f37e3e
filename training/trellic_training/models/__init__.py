"""Networks of the codec: free float transforms, and entropy networks that are integers at heart."""
