"""The server: an HTTP API in OpenAI's shapes over one engine, and a page.

Read `service` first: one thread owns the model, and requests take turns on it round by round.

    settings    what the server is told
    service     who runs when
    job         one request: what is asked, and the events that come back
    job_run     one request while the worker is at it
    prepare     from a body to what the engine takes
    protocol    the bodies of requests, field by field
    chat        /v1/chat/completions
    completions /v1/completions
    app         the application: routes, errors, middleware
"""
