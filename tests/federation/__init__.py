"""Tests of clients, strategies and backends."""
