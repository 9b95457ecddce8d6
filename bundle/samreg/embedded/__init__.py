"""The small promptable model that the library comes with."""
