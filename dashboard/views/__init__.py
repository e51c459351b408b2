"""One file a page.

page.py       what all pages have: style, icon, and what to say when there is nothing to show
overview.py   every system, worst first
target.py     one target: verdict, figures, live charts, alerts
sessions.py   who is connected, longest first, now or at a moment
time_range.py the range of a page and its links
"""
