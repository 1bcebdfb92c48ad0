"""Human rating: people judge answers without knowing which system wrote them."""
