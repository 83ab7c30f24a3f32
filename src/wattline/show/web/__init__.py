"""The studio: a page that calls what the command line calls, on this machine.

static/     the page: plain HTML, CSS and JavaScript, no build step, nothing loaded from elsewhere
inbox.py    what a client sends -> a checked scenario, without a path of the client reaching the disk
api.py      a request -> plain data, one function per view
work.py     processes that answer, with progress, and can be stopped
app.py      routes, limits and headers around them
"""
