"""From a clip's pictures to what its main face shows; one stage a file, in the order of the dataflow."""
