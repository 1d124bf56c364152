"""One module per verb, each with a `command`; imported when the verb is run."""
