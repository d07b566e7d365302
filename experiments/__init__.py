"""Configs, runners and the command."""
