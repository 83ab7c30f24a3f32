"""Sites: power trees, allocation, plans over time and placement."""
