"""Runs the program of a rules file in a sandbox: Trealla as WebAssembly, or SWI-Prolog in a child process."""
