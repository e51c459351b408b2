"""Judges and tells. Pure until deliver.py; times are those of the samples.

view.py        what a rule may look at: a window of samples and those of related targets
rules/         one file a rule; registry.py lists them
blocking.py, holders.py   who blocks whom; who holds a pool's server connections (pure)
applications.py   which application holds connections, its instances taken together (pure)
state.py       inactive → pending → firing → inactive (pure)
notifying.py   whether, why and through which channels somebody is told (pure)
verdict.py     the one sentence that says where the queue is (pure)
evaluate.py    Evaluator: a sample in, a Decision out
deliver.py     Courier: from the outbox to the channels, with retries
pace.py        how fast a channel may be sent messages
notify/        the forms of a message: Slack, email, webhook
notice_json.py, link.py, wording.py   a notice as JSON; links; how names and numbers read
"""
