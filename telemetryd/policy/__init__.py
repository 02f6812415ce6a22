"""What every class, department and application is promised: the policy language, its schedules and its admission."""
