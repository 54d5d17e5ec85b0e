"""Models by name, or any `package:factory`. Import from the files: this one is empty."""
