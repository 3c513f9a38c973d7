"""What each text API calls a question and an answer. Data in, data out: no sockets, no engine."""
