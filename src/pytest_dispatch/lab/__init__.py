"""The lab: its queue, its journal, its machines, and the services that sessions use."""
