"""The CLIPs that ship with the package: architecture, weights, card, and the drawings that they were pretrained on."""
