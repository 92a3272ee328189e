"""How a head or a probe is doing: how well it sits, its log, what its board can check by itself."""
