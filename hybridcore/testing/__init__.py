"""What tests of an application that caches need: origins that fail, slow down and lie on demand."""
