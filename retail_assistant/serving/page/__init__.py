"""The chat page for shoppers: HTML that the server writes, and htmx to bring it in piece by piece.

Why htmx 4: an answer is a stream of HTML that this package's templates escape, so there is one
renderer, in Python, and next to no JavaScript of our own (`static/page.js`: what to do when the
server is gone). Its two files (45 kB) lie in the package, need no build, no CDN and neither
`unsafe-inline` nor `unsafe-eval`, so the page keeps a strict content security policy. It posts and
reads server-sent events with `fetch`, and the same forms work without it.

Looked at and left: NiceGUI needs `unsafe-eval`, a websocket for each shopper and their state in
this process, which a restart or a second replica loses; deep-chat is one component whose inside
(a shadow root with inline styles, markdown made HTML) can hardly be given cards, a policy or other
markup for screen readers; assistant-ui is React, with a build of its own to keep.

The conversation is in the page (`history.py`), so any replica can answer the next question.
"""
