"""The commands, one module a noun. They ask storage.views, change what an operator may change, and print."""
