"""Figures from the shipped files, by commands that anybody with the data can run again."""
