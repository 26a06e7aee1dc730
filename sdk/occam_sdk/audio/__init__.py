"""From a clip's sound to what its voice sounds like; one stage a file, in the order of the dataflow."""
