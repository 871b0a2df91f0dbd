"""The released model: its files fetched, when somebody asks for it, and converted to one."""
