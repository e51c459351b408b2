"""Shows. Reads the store only; it never talks to a monitored server.

server.py    the web server: Streamlit, our routes, our middleware
guard.py     the door: foreign origins and names stay out; security headers
app.py       the script that Streamlit runs: page set-up and navigation
source.py    where pages get the configuration and the store from
span.py      the time range of a page or a request, as its URL says it
panels.py    every chart: its title, unit, series and limits (pure)
charts.py    panels and their data as the JSON that the live chart draws (pure)
shape.py     what the store says as systems, figures and tables (pure)
cards.py     the only place that makes HTML, with everything escaped (pure)
words.py     ages, counts and untrusted text in words (pure)
style.css    what Streamlit's theme does not do; icon.svg the icon of the tab
live/        the live chart: its component, its script and the route that feeds it
views/       one file a page
"""
