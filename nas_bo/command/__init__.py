"""What the command line needs beside typer: words to objects, and the live display."""
