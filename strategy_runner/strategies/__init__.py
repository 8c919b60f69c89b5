"""What a strategy is, where strategies are found, and the ones that come with the product."""
