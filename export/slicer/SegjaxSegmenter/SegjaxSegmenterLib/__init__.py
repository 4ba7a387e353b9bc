"""What the Slicer module computes, without Slicer."""
