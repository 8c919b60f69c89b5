"""Order management: the protocol every OMS speaks here, the embedded paper OMS, and adapters to others."""
