"""The general domain: questions that any chat model can be asked, by people who like short, complete answers to the point."""
