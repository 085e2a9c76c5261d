"""What writes the answers: a model server that is started and watched here, or reached by URL.

`endpoint` speaks OpenAI's protocol with it, `commands` says how each kind is started, `guard` runs
beside it and ends it when this process is gone, `server` starts it again when it fails, and
`variants` opens what the settings ask for.
"""
