"""What the checkers of the protocols' promises share: how a finding is put together."""
