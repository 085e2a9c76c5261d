"""`make rehearse`: on one machine everything that a cluster runs, with real parts."""
