"""Docs generators: reference pages and pictures made from the code, and the recorded contract."""
