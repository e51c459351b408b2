"""The live chart: one component for every chart that moves.

component.py     mounts it on a page
series.py        the route that feeds it, and the routes of its files
answer.py        one answer of that route: all of a range, or only what is new
frames.py        where the data of an answer come from: which rows, which pools
feed.py          notices new rows in the store, once for everybody who waits
assets.py        its script, its style and Plotly, compressed once, cached for ever
live_chart.js    what runs in the browser: the board; panel.js one panel, axes.js words and ticks
live_chart.css   how it looks there
"""
