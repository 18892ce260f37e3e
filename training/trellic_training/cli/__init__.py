"""``trellic train`` and ``trellic finetune``: what the runtime's command line hands over to."""
