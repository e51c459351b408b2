"""The forms of a message. render() is pure, send() speaks to the outside.

message.py   what a message says, once for all channels
slack.py, email.py, webhook.py   one channel each
post.py      one HTTP POST without redirects, secrets or surprises
errors.py    NotifyError: is another try worth it?
channels.py  picks the sender by the kind of channel; the test message
"""
