"""What ``bootfw import`` makes of the configurations of other servers. Pure but for the files that these include."""
