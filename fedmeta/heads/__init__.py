"""The small models that users adapt."""
