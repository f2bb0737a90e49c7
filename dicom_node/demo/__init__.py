"""Studies to try the node with: a digital chest phantom, an average brain, and a scan that must be refused."""
