"""Sampson error: is a video geometrically consistent, in time and across views?"""
