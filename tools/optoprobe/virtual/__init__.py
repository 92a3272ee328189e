"""The virtual side: the light as levels over time, simulated meters, and what puts them in front of a virtual board."""
