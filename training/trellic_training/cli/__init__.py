"""``trellic train`` and ``trellic finetune``, which the runtime's command line calls."""
